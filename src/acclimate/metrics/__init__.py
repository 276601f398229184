"""Arrays in, numbers out: metrics, their intervals, calibration and decisions."""
