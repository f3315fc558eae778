"""The ledger: what a run owes, and what became of it, computed from what can be seen outside of the services.

    acknowledged  =  stored  +  quarantined  +  waiting to be stored  +  lost        (entries)
    matched       =  delivered  +  dead-lettered  +  waiting  +  lost                (pairs of entry and route)

`facts` are what was observed, `fates` divides what is owed, `invariants` judges: all three are plain algebra of sets.
`holdings` reads PostgreSQL and the streams. Nothing here believes a service's own counters.
"""
