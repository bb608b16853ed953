"""What `ashore up` is: the supervisor's plan, hosts, edge and models on demand.

Owns: which processes live on this machine. Refuses: to answer a client.
"""
