"""The leaderboard: entries, their checks, the board."""
