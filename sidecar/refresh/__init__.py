"""
Keep the credentials of each role fresh: one loop per role.

In: a role, its token file and an `Exchange` (sts/client.py). Out: credentials in a `Store`, and the loop's `Health`.

- refresher: the loop; reads the token, calls STS, stores the result
- schedule: the time of the next attempt, and the back-off after each kind of error
- max_duration: the session duration to request with `duration: max`
"""
