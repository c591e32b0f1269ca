// MachineManager
