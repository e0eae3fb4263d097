"""
What policies remember between calls: one object per key.

    policy ─► Registry ─► Breaker · Bucket · Permits · Budget ─► what the caller must do now

Thread-safe and pure: the time is handed in, nothing here waits or calls anybody.  Who must be
told or woken is returned, so no foreign code runs under a lock.
"""
