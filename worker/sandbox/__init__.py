"""The box that the engine's child runs in, and the ladder of ways to build it.

`ladder.choose` finds the highest rung that works here; `box.Box` says what a child may touch; `launch` is the program
that builds the box around itself and runs the child in it. Landlock and seccomp are spoken to directly (ctypes, about
two hundred lines): the libraries around want a newer kernel (sandlock: Landlock ABI 6) or a system library that pip
can't bring (pyseccomp: libseccomp).
"""
