"""The command `polyrefuse leaderboard`.

It has a module for each of build, published, check and power, and `leaderboard` mounts them.
"""
