"""Data sets: hands and photos drawn by code, photos of hands, simulated camera noise.

python -m src.datasets finger_numbers | drawn_photos | sign_digits
"""
