// MachineRuntime
