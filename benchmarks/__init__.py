"""Speed and memory, measured with the real processes and sockets; results as JSON beside this."""
