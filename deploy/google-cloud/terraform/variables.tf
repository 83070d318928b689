variable "project" {
  description = "The project where machines are made. One of its own for CI is best: whoever may make machines there may read what the machines of that project can read."
  type        = string
}

variable "ranges" {
  description = "The addresses of each region's subnetwork, by region; a /20 has 4,092 machines."
  type        = map(string)

  validation {
    condition     = length(var.ranges) > 0 && alltrue([for range in values(var.ranges) : can(cidrhost(range, 0))])
    error_message = "Name at least one region, with a range such as 10.128.0.0/20."
  }
}

variable "network" {
  description = "The network's name; it is made."
  type        = string
  default     = "jitney-ci"
}

variable "self_delete" {
  description = "The `name` of Jitney's configuration (jitney, if it says none): machines whose names begin so may delete themselves, for `self_delete: true`. Null: they may not."
  type        = string
  default     = null
}

variable "workload" {
  description = "NAMESPACE/SERVICEACCOUNT of Jitney in a GKE cluster of this project, for Workload Identity; null where it runs elsewhere."
  type        = string
  default     = null
}
