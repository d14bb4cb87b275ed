"""What the program tells of itself beside its log: one trace per launch, and counters. Off unless configured."""
