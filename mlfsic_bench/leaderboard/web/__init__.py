"""The template, style and script of the leaderboard's page."""
