"""Where: lifecycle zones as boundaries that a network can hold.

An exporter is one pure file in `exporters/`: it renders a plan of zones into the documents of an enforcement point that is not ours. The
gateway decides who may; the network only has to leave no way around it.
"""
