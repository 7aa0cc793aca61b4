"""Data sets: hands and photos drawn by code, photos of hands, simulated camera noise.

python -m src.datasets finger_numbers | drawn_photos | reliefs | thickets | fabrics | textured | sign_digits
"""

import numpy as np

LUMA = np.array((0.299, 0.587, 0.114), np.float32)  # weights of red, green and blue in grey (ITU-R 601)
