"""Tables and figures of the paper as files of runs, and the engine that does what is missing."""
