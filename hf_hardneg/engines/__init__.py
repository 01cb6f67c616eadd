"""Mining on more than one machine: in shards that any scheduler starts, and under engines that have their own."""
