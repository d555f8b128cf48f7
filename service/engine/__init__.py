"""The compute thread, its queue, and the adapters in memory."""
