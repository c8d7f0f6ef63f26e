"""Studies: arms compared over seeds, with honest error bars."""
