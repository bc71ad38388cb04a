"""A student learns its teachers' distribution: who teaches, who learns, what is matched, and what came of it."""
