"""Raw clips in: archives unpacked safely, videos downloaded by id.

Both run before the DAG, which depends on the clips.
"""
