"""durable_stores: the stores that come with durable; each passes `durable.testing.exam`."""
