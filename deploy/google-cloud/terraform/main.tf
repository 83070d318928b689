# What Jitney needs in a Google Cloud project: accounts, a role, a network with a way out.
# `../setup` makes the same with gcloud.

locals {
  role       = yamldecode(file("${path.module}/../role.yaml"))
  subnetwork = { for region, range in var.ranges : region => "${var.network}-${region}" }
}

resource "google_project_service" "needed" {
  for_each = toset([
    "compute.googleapis.com",
    "iam.googleapis.com",
    "iamcredentials.googleapis.com",
    "cloudresourcemanager.googleapis.com",
  ])

  project            = var.project
  service            = each.key
  disable_on_destroy = false
}

resource "google_project_iam_custom_role" "jitney" {
  project     = var.project
  role_id     = "jitney"
  title       = local.role.title
  description = local.role.description
  stage       = local.role.stage
  permissions = local.role.includedPermissions
}

# It makes machines.
resource "google_service_account" "jitney" {
  project      = var.project
  account_id   = "jitney"
  display_name = "jitney"
}

# Machines have it, to prove who they are. It may do nothing.
resource "google_service_account" "jobs" {
  project      = var.project
  account_id   = "ci-jobs"
  display_name = "ci-jobs"
}

resource "google_project_iam_member" "jitney" {
  project = var.project
  role    = google_project_iam_custom_role.jitney.id
  member  = google_service_account.jitney.member
}

resource "google_service_account_iam_member" "machines_have_it" {
  service_account_id = google_service_account.jobs.name
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.jitney.member
}

# Only where it is asked for: machines delete themselves, and a job on one can delete another one
# whose name begins so.
resource "google_project_iam_custom_role" "self_delete" {
  count = var.self_delete == null ? 0 : 1

  project     = var.project
  role_id     = "jitney_self_delete"
  title       = "Jitney self-delete"
  permissions = ["compute.instances.delete"]
}

resource "google_project_iam_member" "self_delete" {
  count = var.self_delete == null ? 0 : 1

  project = var.project
  role    = google_project_iam_custom_role.self_delete[0].id
  member  = google_service_account.jobs.member

  condition {
    title      = "machines-of-${var.self_delete}"
    expression = "resource.type == 'compute.googleapis.com/Instance' && resource.name.extract('/instances/{name}').startsWith('${var.self_delete}-')"
  }
}

resource "google_service_account_iam_member" "workload" {
  count = var.workload == null ? 0 : 1

  service_account_id = google_service_account.jitney.name
  role               = "roles/iam.workloadIdentityUser"
  member             = "serviceAccount:${var.project}.svc.id.goog[${var.workload}]"
}

# Nothing may come in: a network without firewall rules lets nothing in, and all out.
resource "google_compute_network" "ci" {
  project                 = var.project
  name                    = var.network
  auto_create_subnetworks = false

  depends_on = [google_project_service.needed]
}

resource "google_compute_subnetwork" "ci" {
  for_each = var.ranges

  project                  = var.project
  name                     = local.subnetwork[each.key]
  region                   = each.key
  network                  = google_compute_network.ci.id
  ip_cidr_range            = each.value
  private_ip_google_access = true
}

resource "google_compute_router" "ci" {
  for_each = var.ranges

  project = var.project
  name    = local.subnetwork[each.key]
  region  = each.key
  network = google_compute_network.ci.id
}

# Machines have no address of their own, and Buildkite is outside of Google.
resource "google_compute_router_nat" "ci" {
  for_each = var.ranges

  project                            = var.project
  name                               = local.subnetwork[each.key]
  region                             = each.key
  router                             = google_compute_router.ci[each.key].name
  nat_ip_allocate_option             = "AUTO_ONLY"
  source_subnetwork_ip_ranges_to_nat = "LIST_OF_SUBNETWORKS"

  enable_endpoint_independent_mapping = false
  enable_dynamic_port_allocation      = true
  min_ports_per_vm                    = 128
  max_ports_per_vm                    = 4096

  subnetwork {
    name                    = google_compute_subnetwork.ci[each.key].id
    source_ip_ranges_to_nat = ["ALL_IP_RANGES"]
  }
}
