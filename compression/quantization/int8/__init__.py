"""Eight-bit integers for ONNX Runtime: unsigned activations, signed weights with a scale for each output channel.

`histogram.py` and `ranges.py` (an activation's range), `calibrate.py` (measured in batches), `graph.py` (the file made
ready), `placement.py` (what is quantised), `qdq.py` and `dynamic.py` (the file written), `bias.py`, `budget.py`
(layers that stay float), `fake.py` and `trained.py` (training that sees the rounding), `candidates.py`
(the files, and which one is taken), `quantize.py` (the step).
"""
