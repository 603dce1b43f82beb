"""Files from anyone, read and judged in a process of their own with limits of time and memory.

Nothing here is imported by the processes that serve frames or HTTP, but for `files`.
"""
