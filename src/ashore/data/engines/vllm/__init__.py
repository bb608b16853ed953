"""The vLLM engine: an external vLLM server over HTTP, started and watched by us or given by its address.

Owns: the command line of that server, its life, the translation of orders. Refuses: vLLM's Python interface; nothing of
it is ever imported. Not measured on a GPU: tested against a double that speaks vLLM's form.
"""
