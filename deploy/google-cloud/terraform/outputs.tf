output "service_account" {
  description = "What Jitney calls Google with."
  value       = google_service_account.jitney.email
}

output "gce" {
  description = "What goes under backends.NAME.gce in jitney.yaml, beside zones and image."
  value = {
    project         = var.project
    service_account = google_service_account.jobs.email
    subnetworks     = { for region, subnetwork in google_compute_subnetwork.ci : region => subnetwork.id }
  }
}
