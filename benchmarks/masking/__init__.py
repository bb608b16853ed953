"""A labelled set of documents for masking, written from the words of the requirement and not from the detectors.

Nothing here imports `ashore.data.privacy` except `__main__`, which asks it what it finds.
"""
