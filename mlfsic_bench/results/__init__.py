"""Results: a run or a scores file opened, its targets rebuilt, its table made."""
