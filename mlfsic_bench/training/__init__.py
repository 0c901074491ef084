"""Training: the episodic loop, schedules, checkpoints, selection on val."""
