// MachinePlan
