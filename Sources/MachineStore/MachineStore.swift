// MachineStore
