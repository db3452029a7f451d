"""`polyrefuse leaderboard`: a module for each of build, published, check and power, and
`leaderboard`, which mounts them.
"""
