"""Real servers on loopback, and sockets that misbehave, for the demo, the tests and the bench."""
