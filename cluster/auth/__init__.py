"""Users, roles, privileges and passwords; values only, but for the throttle of logins.

Start at `auth_state.py`. Who needs which privilege says `cluster/server/authorizer.py`.
"""
