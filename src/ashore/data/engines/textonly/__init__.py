"""Models that take messages and return text: servers elsewhere whose token ids nobody else knows.

Owns: OpenAI's chat form of an order and its answer, and the bounds of what such a server says of tokens. The servers,
their health and the choice among them are those of `engines/vllm`.
"""
