"""Durable execution for asyncio."""
