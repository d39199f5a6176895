"""The testing kit: a virtual clock, faults, and the exam that every store sits."""
