"""Reading, the gate, and splits: any source to rows that can be learned from, with every row accounted for.

Names are imported from the modules (`from acclimate.data.audit import audit`): a function that is re-exported here
would hide the
module of the same name.
"""
