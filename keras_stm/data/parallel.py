"""Work that threads share: reading clips spends its time outside Python's lock."""

import collections
import concurrent.futures


def in_order(function, items, workers):
    """`map` by threads, which run only a few items ahead: results wait in memory."""
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
        # Where it ended early, nobody wants the rest.
        pool.shutdown(wait=False, cancel_futures=True)
