"""How far a target is from a source: filled below."""
