"""What other methods take and lose: bits a value with all metadata, and the mean KLD in nats.

SmolLM2-135M-Instruct, 1,024 tokens of seven texts, 256 scored; tests/quality measures such.
"""

KNOWN_METHODS = [
    ("q8_0", 8.50, 0.00008),
    ("q5_1", 6.00, 0.0024),
    ("q4_0", 4.50, 0.0191),
    ("q4_0, rotated", 4.50, 0.0059),
    ("KIVI, 4 bits", 6.38, 0.0031),
    ("KIVI, 2 bits", 4.63, 0.151),
    ("4 bits, one scale", 4.00, 0.196),
    ("Lloyd-Max, 4 bits", 4.36, 0.023),
]
