"""Who trains next: paths by least laxity, fair shares, aging, preemption."""
