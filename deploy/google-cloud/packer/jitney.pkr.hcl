# An image for Jitney's machines: Debian with git, buildkite-agent and jitney-guest, so that their
# start downloads nothing. Add what your jobs need as further provisioners.
#
#   packer init . && packer build -var project=acme-ci -var zone=europe-west4-a \
#     -var subnetwork=jitney-ci-europe-west4 -var guest=../../../target/release/jitney-guest .
#
# Packer comes in by Google's Identity-Aware Proxy, as the network lets nothing in: for as long as it
# runs that needs the firewall rule of docs/google-cloud-project.md.

packer {
  required_plugins {
    googlecompute = {
      source  = "github.com/hashicorp/googlecompute"
      version = ">= 1.1.0"
    }
  }
}

variable "project" {
  type = string
}

variable "zone" {
  type = string
}

variable "subnetwork" {
  type        = string
  description = "Its name, in the zone's region."
}

variable "guest" {
  type        = string
  description = "The file jitney-guest, for the processors of the image."
}

variable "agent_version" {
  type    = string
  default = "3.137.0"
}

variable "family" {
  type        = string
  default     = "ci-debian-12"
  description = "What jitney.yaml names: projects/PROJECT/global/images/family/FAMILY."
}

variable "source_family" {
  type        = string
  default     = "debian-12"
  description = "debian-12-arm64, with a machine type such as t2a-standard-1, for arm64."
}

variable "machine_type" {
  type    = string
  default = "e2-standard-2"
}

variable "disk_gb" {
  type        = number
  default     = 10
  description = "The smallest disk that machines of this image can have."
}

locals {
  stamp = formatdate("YYYYMMDD-hhmmss", timestamp())
}

source "googlecompute" "ci" {
  project_id              = var.project
  zone                    = var.zone
  machine_type            = var.machine_type
  source_image_family     = var.source_family
  source_image_project_id = ["debian-cloud"]
  image_name              = "${var.family}-${local.stamp}"
  image_family            = var.family
  image_description       = "Debian with buildkite-agent ${var.agent_version} and jitney-guest"
  disk_size               = var.disk_gb
  subnetwork              = var.subnetwork
  use_internal_ip         = true
  omit_external_ip        = true
  use_iap                 = true
  ssh_username            = "packer"
}

build {
  sources = ["source.googlecompute.ci"]

  provisioner "file" {
    source      = var.guest
    destination = "/tmp/jitney-guest"
  }

  provisioner "shell" {
    script           = "${path.root}/bake"
    environment_vars = ["AGENT_VERSION=${var.agent_version}", "GUEST=/tmp/jitney-guest"]
    execute_command  = "chmod +x {{ .Path }}; sudo env {{ .Vars }} {{ .Path }}"
  }
}
