"""`.nwk`, Niwaki's own file: a whole network, each tensor as a mask, a codebook or levels, entropy-coded; docs/nwk.md.

Only `network.py` needs torch: the tensors are read with numpy (and constriction) alone.
"""
