"""The llama.cpp engine: every GGUF, the latent-attention DeepSeek models among them.

Owns: llama.cpp's C interface from the `xllamacpp` wheel, sequences over its memory, prefix reuse within a partition.
Refuses: llama.cpp's own server, whose streams leave out the ids of tokens that end inside a character, whose prompt
cache has no partitions, and which listens on a TCP port.
"""
