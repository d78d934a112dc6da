"""The report of what was tracked: an HTML page and a summary in the terminal."""
