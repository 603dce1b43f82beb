"""Every fault enters itself into the table when its module is loaded."""

from chaos.faults import clock, engine, garbage, keys, kills, lies, order, subscribers, swaps

__all__ = ["clock", "engine", "garbage", "keys", "kills", "lies", "order", "subscribers", "swaps"]
