"""Callbacks: they watch training, save it and show it; they never steer it."""
