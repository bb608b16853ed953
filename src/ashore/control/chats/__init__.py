"""Chats of people: their kept conversations, and the assistants that they make and share.

Owns: who lists and reads conversations beside their owner, and assistants. Refuses to own: storing and changing
conversations (`data/jobs`, over `/v1/conversations`), and the page (`console`).
"""
