"""What a number format is: formats, quantizers, range search, quantized layers and the surgery that places them."""
