"""The OpenVINO engine for CPUs: preparation of its model files, scheduling, sampling, embeddings.

Owns: everything between token ids and the CPU plugin. Refuses: text, processes, where models come from.
"""
