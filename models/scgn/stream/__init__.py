"""What a stream of frames knows: its noise, running means, drift, and how good the picture is.

facts, state: what goes in and out of the compiled graph beside pixels; the rest is in the graph
(front and its parts) or beside it on the host (tracker).
"""
