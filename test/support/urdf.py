"""URDF of a robot with two joints and a gripper, for the tests of profiles."""

URDF = """<robot name="two">
  <link name="base_link"/><link name="upper"/><link name="tool"/><link name="optical"/>
  <link name="left"/><link name="right"/>
  <joint name="shoulder" type="revolute"><parent link="base_link"/><child link="upper"/>
    <limit lower="-1.58" upper="1.58" velocity="2.0" effort="1"/></joint>
  <joint name="elbow" type="revolute"><parent link="upper"/><child link="tool"/>
    <limit lower="-1.0" upper="1.0" velocity="2.0" effort="1"/></joint>
  <joint name="claw" type="revolute"><parent link="tool"/><child link="left"/>
    <limit lower="0.0" upper="0.8" velocity="2.0" effort="1"/></joint>
  <joint name="other_claw" type="revolute"><parent link="tool"/><child link="right"/>
    <limit lower="0.0" upper="0.8" velocity="2.0" effort="1"/><mimic joint="claw"/></joint>
  <joint name="eye" type="fixed"><parent link="tool"/><child link="optical"/></joint>
</robot>
"""
