"""Parallel work in threads.

Threads suffice, because reading clips spends its time outside Python's global interpreter lock.
"""

import collections
import concurrent.futures


def in_order(function, items, workers):
    """Yields `function(item)` for each of `items`, in order, computed by threads.

    The threads run only a few items ahead, because results wait in memory.
    """
    pool = concurrent.futures.ThreadPoolExecutor(workers)
    results = collections.deque()
    try:
        for item in items:
            if len(results) == 2 * workers:
                yield results.popleft().result()
            results.append(pool.submit(function, item))
        while results:
            yield results.popleft().result()
    finally:
        # If the caller stopped early, nobody needs the other results.
        pool.shutdown(wait=False, cancel_futures=True)
